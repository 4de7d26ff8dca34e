"""The daemon that `syncer serve` runs. Only `syncer.cli.serve` imports this package."""
