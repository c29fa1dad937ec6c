"""Model-free core: types, players, updates and the train step."""
