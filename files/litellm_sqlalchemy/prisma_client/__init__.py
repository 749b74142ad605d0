"""LiteLLM's database client on SQLAlchemy: what the package ``prisma`` of this repository answers with.

``schema.prisma`` of the installed LiteLLM becomes SQLAlchemy tables, and the operations of prisma-client-py 0.15
become SQLAlchemy statements.
"""
