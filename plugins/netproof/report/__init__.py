"""Events in, one writer a file. Nothing here decides a verdict, and nothing here knows pytest."""
