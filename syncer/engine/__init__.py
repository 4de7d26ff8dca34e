"""Copies the images that the rules select: a task graph, executed by a bounded pool of workers."""
