"""One run: its controller, its workers, and how a test function becomes a verdict."""
