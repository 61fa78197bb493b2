"""How a report is protected: its level, its encryption, and where the keys come from. No Airflow, no driver."""
