"""REST API and pages inside Airflow's API server. No task imports this; `lazy` is all that the plugin file needs."""
