"""The little of the Kubernetes API that Netproof needs, with retries and deadlines: plain dicts over HTTP, raw websockets for streams."""
