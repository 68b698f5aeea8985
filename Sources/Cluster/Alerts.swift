//  The guide's alert, "more than ten errors in a minute", for Watcher and for Kibana's rules, and two rules beside it.

public enum Alerts {
  private static let meta: JSONValue = ["managed_by": "sluice"]

  /// For `PUT /_watcher/watch/aura-high-error-rate`. The window ends a minute ago: what is younger may not be indexed yet.
  public static var watch: JSONValue {
    let time: JSONValue = [
      "gte": "{{ctx.trigger.scheduled_time}}||-2m", "lt": "{{ctx.trigger.scheduled_time}}||-1m",
    ]
    let filters: JSONValue = [["terms": ["levelname": ["ERROR", "CRITICAL"]]], ["range": ["@timestamp": time]]]
    return [
      "trigger": ["schedule": ["interval": "1m"]],
      "input": [
        "search": [
          "request": [
            "indices": ["aura-logs-*"], "rest_total_hits_as_int": true,
            "body": [
              "size": 0, "track_total_hits": true, "query": ["bool": ["filter": filters]],
              "aggs": ["by_logger": ["terms": ["field": "logger", "size": 5]]],
            ],
          ]
        ]
      ],
      "condition": ["compare": ["ctx.payload.hits.total": ["gt": 10]]], "throttle_period": "10m",
      "actions": [
        "log_it": ["logging": ["level": "warn", "text": "{{ctx.payload.hits.total}} errors in a minute"]]
      ],
      "metadata": meta,
    ]
  }

  /// For `POST /api/alerting/rule` of Kibana; actions are added with the id of a connector.
  public static var rules: [(name: String, body: JSONValue)] {
    func rule(_ title: String, _ filter: JSONValue, _ change: JSONValue) -> JSONValue {
      let query: JSONValue = ["query": ["bool": ["filter": [filter]]]]
      let parameters: JSONValue = [
        "searchType": "esQuery", "index": ["aura-logs-*"], "timeField": "@timestamp", "esQuery": .text(query.text),
        "size": 20, "threshold": [10], "thresholdComparator": ">", "timeWindowSize": 1, "timeWindowUnit": "m",
        "aggType": "count", "groupBy": "all", "excludeHitsFromPreviousRun": false,
      ]
      return [
        "name": .text(title), "rule_type_id": ".es-query", "consumer": "alerts", "enabled": true, "tags": ["aura"],
        "schedule": ["interval": "1m"], "params": parameters.merged(change), "actions": [],
      ]
    }
    return [
      (
        "high-error-rate",
        rule("Aura: high error rate", ["terms": ["levelname": ["ERROR", "CRITICAL"]]], [:])
      ),
      (
        "authentication-failures",
        rule(
          "Aura: many failed authentications of one address", ["term": ["threat_type": "authentication_failed"]],
          [
            "groupBy": "top", "termField": "client_ip", "termSize": 10, "threshold": [20], "timeWindowSize": 5,
          ])
      ),
      (
        "slow-requests",
        rule(
          "Aura: many slow requests", ["range": ["request_duration": ["gt": 2]]],
          ["threshold": [50], "timeWindowSize": 5])
      ),
    ]
  }
}
