"""Every form in which a compiled program writes that devices exchange something is read and counted."""

import textwrap

import pytest

from reenax.train.hlo import Program


def program(body: str, more: str = "", partitions: int = 8) -> Program:
    """A program of these instructions."""
    lines = textwrap.indent(textwrap.dedent(body).strip(), "  ")
    return Program(
        f"HloModule jit_run, is_scheduled=true, num_partitions={partitions}\n\n{textwrap.dedent(more).strip()}\n\n"
        f"ENTRY %main.1_spmd (p: f32[4], q: (f32[2], s32[])) -> f32[4] {{\n"
        f"  %p = f32[4]{{0}} parameter(0), metadata={{op_name=\"x['a']\"}}\n{lines}\n}}\n"
    )


def the_only(body: str, **kwargs):
    (found,) = program(body, **kwargs).collectives
    return found


@pytest.mark.parametrize(
    ("line", "kind", "payload", "group", "sent"),
    [
        (
            "%r = f32[4,8]{1,0} all-reduce(%p), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%add",
            "all-reduce",
            128,
            tuple(range(8)),
            224,
        ),
        (
            "%r = (f32[256]{0}, bf16[3,3]{1,0}, /*index=2*/pred[5]{0}) all-reduce(%p, %p, %p), replica_groups={{0,1}}",
            "all-reduce",
            1024 + 18 + 5,
            (0, 1),
            1047,
        ),
        (
            "%r = f32[8,4]{1,0:T(8,128)} all-gather(%p), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}",
            "all-gather",
            128,
            (0, 2, 4, 6),
            96,
        ),
        (
            "ROOT %r = f32[2]{0} reduce-scatter(%p), replica_groups={{0,4},{1,5},{2,6},{3,7}}, dimensions={0}",
            "reduce-scatter",
            16,
            (0, 4),
            8,
        ),
        ("%r = u8[100]{0} all-to-all(%p), replica_groups={}", "all-to-all", 100, tuple(range(8)), 87.5),
        (
            "%r = c64[10]{0} collective-permute(%p), source_target_pairs={{1,2},{2,1}}",
            "collective-permute",
            80,
            (1, 2),
            80,
        ),
        (
            "%r = s4[10]{0} all-reduce-start(%p), replica_groups=[4,2]<=[8]",
            "all-reduce",
            5,
            (0, 1),
            5,
        ),
        (
            "%r = (f32[1,4]{1,0}, f32[2,4]{1,0}) all-gather-start(%p), replica_groups=[4,2]<=[8]",
            "all-gather",
            32,
            (0, 1),
            16,
        ),
        (
            "%r = ((f32[4]{0}, f32[8]{0}), (f32[8]{0}, f32[16]{0})) all-gather-start(%p, %p), replica_groups={{0,3}}",
            "all-gather",
            96,
            (0, 3),
            48,
        ),
        (
            "%r = (f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1}}",
            "collective-permute",
            16,
            (0, 1),
            16,
        ),
        (
            "%r = ((f32[8]{0}), f32[2]{0}, s32[]) reduce-scatter-start(%p), replica_groups=[2,4]<=[8]",
            "reduce-scatter",
            32,
            (0, 1, 2, 3),
            24,
        ),
    ],
)
def test_forms_of_collectives(line, kind, payload, group, sent):
    found = the_only(line)
    assert (found.kind, found.payload, found.group, found.times) == (kind, payload, group, 1)
    assert found.sent == pytest.approx(sent)


def test_the_largest_of_the_arrays_is_told():
    assert the_only("%r = (f32[2]{0}, f32[9]{0}) all-reduce(%p, %p), replica_groups={}").largest == 36
    assert the_only("%r = (f32[2]{0}, f32[9]{0}) reduce-scatter(%p, %p), replica_groups={{0,1}}").largest == 72


@pytest.mark.parametrize(
    ("groups", "group"),
    [
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", (0, 4)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", (0, 1, 2, 3)),
        ("mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'b'}", (0, 1, 2, 3)),
        ("mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'c'}", (0, 4)),
        ("mesh['a'=2,'b'=4], device_ids=(7,6,5,4,3,2,1,0) {'b'}", (7, 6, 5, 4)),
        ("mesh['a'=8] {'a':(2)2}", (0, 2)),
        ("mesh['a'=2,'b'=4] {'a','b'}", tuple(range(8))),
    ],
)
def test_groups_by_axes_of_a_mesh(groups, group):
    line = f"%r = f32[4]{{0}} all-reduce(%p), replica_groups={groups}, use_global_device_ids=true, to_apply=%add"
    assert the_only(line).group == group


def test_what_is_done_was_started_and_is_counted_there():
    found = the_only("""
        %s = f32[4]{0} all-reduce-start(%p), replica_groups={}
        %r = f32[4]{0} all-reduce-done(%s)
    """)
    assert found.payload == 16


def test_an_asynchronous_computation_is_counted_once():
    more = """
        %wrapped (a: f32[8]) -> f32[2] {
          %a = f32[8]{0} parameter(0)
          ROOT %rs = f32[2]{0} reduce-scatter(%a), replica_groups=[2,4]<=[8], dimensions={0}
        }
    """
    for opcode in ("async", "reduce-scatter"):
        found = the_only(
            f"""
            %s = ((f32[8]{{0}}), f32[2]{{0}}, s32[]) {opcode}-start(%p), calls=%wrapped, replica_groups=[2,4]<=[8]
            %r = f32[2]{{0}} {opcode}-done(%s), calls=%wrapped
            """.replace("done(%s), calls=%wrapped", "done(%s)"),
            more=more,
        )
        assert (found.kind, found.payload, found.times) == ("reduce-scatter", 32, 1)


LOOP = """
    %inner (a: f32[4]) -> f32[4] {
      %a = f32[4]{0} parameter(0)
      ROOT %g = f32[4]{0} all-reduce(%a), replica_groups={}, to_apply=%add, metadata={op_name="jit(run)/while/grads"}
    }

    %body (t: (s32[], f32[4])) -> (s32[], f32[4]) {
      %t = (s32[], f32[4]{0}) parameter(0)
      %e = f32[4]{0} get-tuple-element(%t), index=1
      %c = f32[4]{0} call(%e), to_apply=%inner
      %d = f32[4,4]{1,0} dot(%e, %c), lhs_contracting_dims={}, rhs_contracting_dims={}
      ROOT %o = (s32[], f32[4]{0}) tuple(%e, %c)
    }

    %condition (u: (s32[], f32[4])) -> pred[] {
      %u = (s32[], f32[4]{0}) parameter(0)
      ROOT %l = pred[] constant(true)
    }
"""


def test_loops_count_as_often_as_they_are_known_to_run():
    line = "%w = (s32[], f32[4]{0}) while(%p), condition=%condition, body=%body"
    made = program(f'{line}, backend_config={{"known_trip_count":{{"n":"5"}},"other":1}}', more=LOOP)
    (found,) = made.collectives
    assert (found.times, found.certain, found.place) == (5, True, "jit(run)/while/grads")
    assert found.sent == pytest.approx(5 * 2 * 16 * 7 / 8)
    assert (made.work.flops, made.work.flops_once) == (5 * 32, 32)
    assert made.work.bytes == 5 * made.work.bytes_once > 0
    (found,) = program(line, more=LOOP).collectives
    assert (found.times, found.certain) == (1, False)


def test_every_branch_of_a_choice_counts():
    more = (
        LOOP
        + """
    %other (b: f32[4]) -> f32[4] {
      %b = f32[4]{0} parameter(0)
      ROOT %h = f32[2]{0} all-gather(%b), replica_groups={}
    }
    """
    )
    for branches in ("branch_computations={%inner, %other}", "true_computation=%inner, false_computation=%other"):
        found = program(f"%r = f32[4]{{0}} conditional(%i, %p, %p), {branches}", more=more).collectives
        assert sorted(c.kind for c in found) == ["all-gather", "all-reduce"]


def test_products_within_fusions_count_and_their_traffic_does_not():
    more = """
        %fused (a: f32[2,8,8,3], k: f32[3,3,3,16]) -> f32[2,8,8,16] {
          %a = f32[2,8,8,3]{3,2,1,0} parameter(0)
          %k = f32[3,3,3,16]{3,2,1,0} parameter(1)
          ROOT %c = f32[2,8,8,16]{3,2,1,0} convolution(%a, %k), window={size=3x3}, dim_labels=b01f_01io->b01f
        }
    """
    body = """
        %a = f32[2,8,8,3]{3,2,1,0} copy(%p)
        %k = f32[3,3,3,16]{3,2,1,0} constant({...})
        %f = f32[2,8,8,16]{3,2,1,0} fusion(%a, %k), kind=kOutput, calls=%fused
    """
    work = program(body, more=more).work
    made, read, kernel = 2 * 8 * 8 * 16, 2 * 8 * 8 * 3, 27 * 16
    assert work.flops == 2 * made * 27
    assert work.bytes == 4 * (made + read + kernel) + 4 * (read + 4)


def test_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        Program("HloModule nothing\n")
