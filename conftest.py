"""A checkout runs uninstalled: `pythonpath` finds the package, this line the plugin (and pytest's own, for the tests of the plugin)."""

pytest_plugins = ["netproof.plugin", "pytester"]
