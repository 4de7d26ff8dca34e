"""What the tests run against and judge by: real registries, a token server, the program as a process."""
