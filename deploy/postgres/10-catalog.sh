#!/bin/sh
# The catalog's own database and user: tasks know this password, and with it they reach nothing of Airflow's.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$CATALOG_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE images LOGIN PASSWORD :'password';
CREATE DATABASE images OWNER images;
REVOKE CONNECT ON DATABASE images FROM PUBLIC;
SQL
