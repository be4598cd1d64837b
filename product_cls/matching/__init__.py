"""Local features of two pictures, matched and checked by geometry; arrays only."""
