"""Places behind the distribution API: repositories at a registry, uploads to it, and its mirrors."""
