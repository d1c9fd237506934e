# Airflow with this package inside, for every component. The same files in the same places that docs/deployment.md
# names for a stock install: dags and plugins in Airflow's folders, `include` beside them on PYTHONPATH.
FROM apache/airflow:3.3.2-python3.11

# Only what a deployment needs, at the versions and hashes of the lock file.
COPY requirements.txt requirements.lock /tmp/image-proxy/
COPY scripts/production_lock.py /tmp/image-proxy/scripts/production_lock.py
WORKDIR /tmp/image-proxy
RUN python -m scripts.production_lock > /tmp/production.lock \
    && pip install --no-cache-dir --require-hashes -r /tmp/production.lock \
    && mkdir -p /opt/airflow/logs /opt/airflow/auth /opt/airflow/stand-in
WORKDIR /opt/airflow

COPY --chown=airflow:root dags /opt/airflow/dags
COPY --chown=airflow:root plugins /opt/airflow/plugins
COPY --chown=airflow:root include /opt/airflow/include
COPY --chown=airflow:root scripts /opt/airflow/scripts

ENV PYTHONPATH=/opt/airflow
USER 50000:0
