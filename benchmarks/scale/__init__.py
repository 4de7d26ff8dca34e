"""How far shares go: measured with a few real processes, computed for many. See docs/scale.md."""
