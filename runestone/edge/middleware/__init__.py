"""The aiohttp middlewares, outermost first, with the reason for the order.

rescue         sees every failure below and is the only place that turns one into an answer
cors           (edge/cors.py) answers preflights, which carry no key
authenticate   before anything of the request is read: an unknown caller costs nothing
"""
