"""Finds image references in Kubernetes manifests, compose files, Dockerfiles and lists. Contacts nothing."""
