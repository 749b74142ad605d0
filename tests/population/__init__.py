"""A LiteLLM database as a stock LiteLLM with Prisma leaves it, for tests of the switch."""
