"""The database client against Prisma's own: the same operations, on one database, in turns."""
