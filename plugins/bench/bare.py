"""A test that needs nothing: what a worker weighs without Netproof at work."""


def test_nothing() -> None:
    assert True
