"""Test support: real registries, a token server, the program as a process, and checks of the result."""
