//! Call-site analysis, verdicts and advice.json.
