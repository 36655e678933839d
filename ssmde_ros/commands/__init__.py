"""The subcommands of `ssmde`: each module adds its parser and runs."""
