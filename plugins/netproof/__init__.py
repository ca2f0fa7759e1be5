"""Netproof: does a Kubernetes cluster's network do what Kubernetes promises?"""

__version__ = "0.1.0"
