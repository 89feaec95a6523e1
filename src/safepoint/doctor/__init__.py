"""`safepoint doctor`: what this host gives, and what is not right. It looks, and changes nothing.

A check is a function that returns findings. To add one, write it and name it in `examine`.
"""
