"""The words of ``model.weights`` that name no file."""

WEIGHT_SOURCES = ("auto", "package", "hub", "views", "none")
