"""`syncer demo`: the main job between two registries in memory, over real HTTP."""
