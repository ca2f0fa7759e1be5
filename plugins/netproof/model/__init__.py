"""Values of Netproof: what is probed, what was seen, what it means. No I/O, nothing mutable."""
