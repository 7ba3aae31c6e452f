"""What the server says of its own endpoints: as data, of which /openapi.json is made (edge/openapi.py).

about         what a row of the table of routes must say
operations    what each row says
parameters    what stands in paths, queries and headers
requests      the JSON schemas of bodies, out of the tables the code itself checks by
answers       the JSON schemas of answers
"""
