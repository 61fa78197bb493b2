"""Progress exhaust: the csv of every learner's progress and scores for a course batch, made by Airflow."""
