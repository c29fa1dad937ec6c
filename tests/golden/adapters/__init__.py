"""How each model's golden cases are computed: one file per model, named as the manifests name it.

An adapter has one function, ``compute(golden, case) -> arrays``, which returns at least the arrays that
``golden.compared(case)`` names, in the layout of the case. It reads hyper-parameters, weights and inputs
from the manifest and knows no number in advance.
"""
