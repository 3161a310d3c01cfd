"""The paper's tables with this suite's numbers, the model cards, the summary of the README."""
