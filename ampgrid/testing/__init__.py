"""The testing kit: shipped, so that users' tests can have a grid in memory too.

Real code on both sides, real TLS, a clock of the test's own, and no socket.
"""
