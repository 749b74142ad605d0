"""What LiteLLM asks of its Prisma client, read from its source: every call, with the shape of its arguments."""
