"""A user's own model and data: Heron finds both by name, as `package.module:factory`."""
