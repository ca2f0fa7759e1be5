"""From what was seen to what is said of it: pure functions, no I/O, no clock, nothing known of policies, pods or pytest.

`cell` grades a probe, `course` reads the rounds, `settle` says what comes next, `judge` gives the verdict on a step,
`control` knows what must be shown beforehand, `confirm` and `deviation` what is made of a verdict afterwards.
"""
