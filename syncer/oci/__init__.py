"""The formats: references, digests, descriptors, manifests. Frozen data; no I/O, no await."""
