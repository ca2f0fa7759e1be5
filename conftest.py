"""A checkout runs uninstalled: `pythonpath` finds the package, this line the plugin."""

pytest_plugins = ["netproof.plugin"]
