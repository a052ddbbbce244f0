"""Alembic's entry point: migrates over the given connection, inside its transaction."""

from alembic import context

_connection = context.config.attributes["connection"]
_schema = context.config.attributes["schema"]
if _schema is not None:
    _connection.exec_driver_sql(f'SET LOCAL search_path = "{_schema}"')
context.configure(connection=_connection, version_table_schema=_schema, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
