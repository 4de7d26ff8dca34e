"""The command line: options, exit codes, terminal. The only package that knows `argv` and exits."""
