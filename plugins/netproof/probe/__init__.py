"""Probing: the program in the pods (`agent`), the streams to it, and rounds over all of them (`fleet`). Knows no policies."""
