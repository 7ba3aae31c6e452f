"""What runs in an operator's terminal and looks at a gateway from outside, over its admin endpoints: top, tail."""
