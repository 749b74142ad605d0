"""The client and its transactions."""

from litellm_sqlalchemy.prisma_client.batch import Batch
from litellm_sqlalchemy.prisma_client.client import Prisma
from litellm_sqlalchemy.prisma_client.transactions import TransactionManager

Client = Prisma

__all__ = ["Batch", "Client", "Prisma", "TransactionManager"]
