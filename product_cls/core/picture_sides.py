"""The sides of pictures that networks take; imports nothing, so that they are checked at once."""

SMALLEST = 8  # pixels
LARGEST = 4096  # pixels; a batch of larger pictures fits no memory
