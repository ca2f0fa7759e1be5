"""The embedded lab: a small cluster of network namespaces, reached by a kubeconfig like any other. It is not Kubernetes."""
