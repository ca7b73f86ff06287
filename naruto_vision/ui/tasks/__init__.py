"""What the process with the models does: a module for each part of the page, whose functions take ``Models`` first.

A function with an argument ``step`` is a job: it calls ``step(done, total, news)`` after each of its steps.
"""
