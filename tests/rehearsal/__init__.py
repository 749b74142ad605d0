"""The switch from Prisma and back, rehearsed on the lab."""
