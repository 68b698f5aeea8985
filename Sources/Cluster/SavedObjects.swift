//  Dashboards as Kibana imports them: one JSON object a line, with the versions of its formats, and texts of JSON inside.

public enum SavedObjects {
  /// The content of the file that Kibana imports; one object a line.
  public static var lines: [JSONValue] {
    var all = Dashboards.views.map { view($0.id, $0.title) }
    for search in Dashboards.searches {
      all.append(
        savedSearch("aura-search-" + search.id, search.title, search.query, search.columns, view: "aura-logs"))
    }
    for dashboard in Dashboards.all { all += objects(of: dashboard) }
    return all
  }

  private static func object(
    _ type: String, _ id: String, _ version: String, _ references: [JSONValue], _ attributes: JSONValue
  ) -> JSONValue {
    [
      "id": .text(id), "type": .text(type), "attributes": attributes, "references": .list(references),
      "managed": false, "coreMigrationVersion": "8.8.0", "typeMigrationVersion": .text(version),
    ]
  }

  private static func reference(_ type: String, _ id: String, _ name: String) -> JSONValue {
    ["type": .text(type), "id": .text(id), "name": .text(name)]
  }

  private static func view(_ id: String, _ title: String) -> JSONValue {
    let formats: JSONValue = [
      "request_duration": [
        "id": "duration",
        "params": ["inputFormat": "seconds", "outputFormat": "humanizePrecise", "outputPrecision": 3],
      ],
      "status_code": ["id": "string"], "memory_used_bytes": ["id": "bytes"],
    ]
    return object(
      "index-pattern", id, "8.0.0", [],
      [
        "title": .text(title), "name": .text(id), "timeFieldName": "@timestamp", "fields": "[]", "fieldAttrs": "{}",
        "fieldFormatMap": .text(formats.text), "runtimeFieldMap": "{}", "sourceFilters": "[]", "typeMeta": "{}",
        "allowNoIndex": true, "allowHidden": false,
      ])
  }

  private static let sourceName = "kibanaSavedObjectMeta.searchSourceJSON.index"

  private static func query(_ text: String) -> JSONValue { ["language": "kuery", "query": .text(text)] }

  private static func savedSearch(
    _ id: String, _ title: String, _ text: String, _ columns: [String], view: String
  ) -> JSONValue {
    let source: JSONValue = ["query": query(text), "filter": [], "indexRefName": .text(sourceName)]
    return object(
      "search", id, "8.0.0", [reference("index-pattern", view, sourceName)],
      [
        "title": .text(title), "description": "", "columns": .list(columns.map { .text($0) }),
        "sort": [["@timestamp", "desc"]], "grid": [:], "hideChart": false, "isTextBasedQuery": false,
        "timeRestore": false, "kibanaSavedObjectMeta": ["searchSourceJSON": .text(source.text)],
      ])
  }

  // MARK: Dashboards

  private static func objects(of dashboard: Dashboard) -> [JSONValue] {
    var all: [JSONValue] = []
    var panels: [JSONValue] = []
    var references: [JSONValue] = []
    var x = 0
    var y = 0
    var rowHeight = 0
    for (i, panel) in dashboard.panels.enumerated() {
      if x + panel.width > 48 {
        x = 0
        y += rowHeight
        rowHeight = 0
      }
      let index = "p\(i + 1)"
      let id = "\(dashboard.id)-\(i + 1)"
      var type = "lens"
      if case .documents(let columns) = panel.shape {
        type = "search"
        all.append(savedSearch(id, "Aura: " + panel.title.lowercased(), panel.query, columns, view: panel.view))
      } else {
        all.append(lens(id, panel))
      }
      func number(_ value: Int) -> JSONValue { .number(String(value)) }
      panels.append([
        "type": .text(type),
        "gridData": [
          "x": number(x), "y": number(y), "w": number(panel.width), "h": number(panel.height), "i": .text(index),
        ],
        "panelIndex": .text(index), "embeddableConfig": ["enhancements": [:]], "panelRefName": .text("panel_" + index),
        "title": .text(panel.title),
      ])
      references.append(reference(type, id, "\(index):panel_\(index)"))
      x += panel.width
      rowHeight = max(rowHeight, panel.height)
    }
    var controls: JSONValue = [:]
    for (i, field) in dashboard.controls.enumerated() {
      let id = "c\(i + 1)"
      controls = controls.merged([
        id: [
          "order": .number(String(i)), "width": "medium", "grow": true, "type": "optionsListControl",
          "explicitInput": ["fieldName": .text(field), "title": .text(field), "id": .text(id), "enhancements": [:]],
        ]
      ])
      references.append(reference("index-pattern", dashboard.view, "controlGroup_\(id):optionsListDataView"))
    }
    let parents: JSONValue = [
      "ignoreFilters": false, "ignoreQuery": false, "ignoreTimerange": false, "ignoreValidations": false,
    ]
    let options: JSONValue = [
      "useMargins": true, "syncColors": false, "syncCursor": true, "syncTooltips": false, "hidePanelTitles": false,
    ]
    let source: JSONValue = ["query": query(""), "filter": []]
    all.append(
      object(
        "dashboard", dashboard.id, "8.9.0", references,
        [
          "title": .text(dashboard.title), "description": .text(mark), "version": 1, "timeRestore": true,
          "timeFrom": .text(dashboard.from), "timeTo": "now",
          "refreshInterval": ["pause": false, "value": .number(String(dashboard.refreshSeconds * 1000))],
          "optionsJSON": .text(options.text), "panelsJSON": .text(JSONValue.list(panels).text),
          "kibanaSavedObjectMeta": ["searchSourceJSON": .text(source.text)],
          "controlGroupInput": [
            "controlStyle": "oneLine", "chainingSystem": "HIERARCHICAL",
            "ignoreParentSettingsJSON": .text(parents.text), "panelsJSON": .text(controls.text),
          ],
        ]))
    return all
  }

  // MARK: Lens

  private static let layer = "layer-1"

  private static func lens(_ id: String, _ panel: Panel) -> JSONValue {
    var columns: JSONValue = [:]
    var order: [String] = []
    func add(_ id: String, _ column: JSONValue) {
      columns = columns.merged([id: column])
      order.append(id)
    }
    if let split = panel.split { add("split", splitColumn(split, orderedBy: "m1")) }
    if panel.overTime {
      add(
        "time",
        [
          "label": "@timestamp", "dataType": "date", "operationType": "date_histogram", "isBucketed": true,
          "scale": "interval", "sourceField": "@timestamp",
          "params": ["interval": "auto", "includeEmptyRows": true, "dropPartials": false],
        ])
    }
    let metricIDs = panel.metrics.indices.map { "m\($0 + 1)" }
    for (id, metric) in zip(metricIDs, panel.metrics) { add(id, metricColumn(metric)) }
    let (type, visualization) = visualization(panel, metricIDs)
    return object(
      "lens", id, "8.9.0", [reference("index-pattern", panel.view, "indexpattern-datasource-layer-" + layer)],
      [
        "title": .text("Aura: " + panel.title), "description": "", "visualizationType": .text(type),
        "state": [
          "adHocDataViews": [:], "internalReferences": [],
          "datasourceStates": [
            "formBased": [
              "layers": [
                layer: [
                  "columns": columns, "columnOrder": .list(order.map { .text($0) }), "incompleteColumns": [:],
                  "sampling": 1, "ignoreGlobalFilters": false,
                ]
              ]
            ]
          ],
          "visualization": visualization, "query": query(panel.query), "filters": [],
        ],
      ])
  }

  private static func metricColumn(_ metric: PanelMetric) -> JSONValue {
    var column: JSONValue = [
      "label": .text(metric.label), "customLabel": true, "dataType": metric.isText ? "string" : "number",
      "operationType": .text(metric.operation), "isBucketed": false, "scale": metric.isText ? "ordinal" : "ratio",
      "sourceField": .text(metric.field ?? "___records___"),
    ]
    var parameters: JSONValue = [:]
    switch metric.operation {
    case "percentile": parameters = ["percentile": .number(String(metric.percentile ?? 95))]
    case "last_value": parameters = ["sortField": "@timestamp"]
    default: parameters = ["emptyAsNull": true]
    }
    if let format = metric.format {
      parameters = parameters.merged(["format": ["id": .text(format), "params": ["decimals": 1]]])
    }
    column = column.merged(["params": parameters])
    if metric.operation == "last_value" {
      // A last value is that of the last document which has the field.
      column = column.merged(["filter": query("\(metric.field ?? ""): *")])
    }
    if let filter = metric.filter { column = column.merged(["filter": query(filter)]) }
    if let rate = metric.rate { column = column.merged(["timeScale": .text(rate)]) }
    return column
  }

  private static func splitColumn(_ split: PanelSplit, orderedBy metric: String) -> JSONValue {
    switch split {
    case .terms(let field, let size):
      [
        "label": .text("Top values of \(field)"), "dataType": field == "client_ip" ? "ip" : "string",
        "operationType": "terms", "isBucketed": true, "scale": "ordinal", "sourceField": .text(field),
        "params": [
          "size": .number(String(size)), "orderBy": ["type": "column", "columnId": .text(metric)],
          "orderDirection": "desc", "otherBucket": false, "missingBucket": false, "parentFormat": ["id": "terms"],
          "include": [], "exclude": [], "includeIsRegex": false, "excludeIsRegex": false,
        ],
      ]
    case .filters(let filters):
      [
        "label": "Filters", "dataType": "string", "operationType": "filters", "isBucketed": true, "scale": "ordinal",
        "params": [
          "filters": .list(filters.map { ["label": .text($0.label), "input": query($0.query)] })
        ],
      ]
    case .ranges(let field, let ranges):
      [
        "label": .text(field), "dataType": "string", "operationType": "range", "isBucketed": true,
        "scale": "ordinal", "sourceField": .text(field),
        "params": [
          "type": "range", "maxBars": "auto",
          "ranges": .list(
            ranges.map { ["from": .number(String($0.from)), "to": .number(String($0.to)), "label": ""] }),
        ],
      ]
    }
  }

  private static func visualization(_ panel: Panel, _ metrics: [String]) -> (type: String, JSONValue) {
    let base: JSONValue = ["layerId": .text(layer), "layerType": "data"]
    let first: JSONValue = .text(metrics[0])
    switch panel.shape {
    case .metric, .documents:
      var state = base.merged(["metricAccessor": first])
      if metrics.count > 1 { state = state.merged(["secondaryMetricAccessor": .text(metrics[1])]) }
      return ("lnsMetric", state)
    case .gauge:
      return (
        "lnsGauge",
        base.merged([
          "shape": "horizontalBullet", "metricAccessor": first, "ticksPosition": "auto", "labelMajorMode": "auto",
        ])
      )
    case .donut:
      let part = base.merged([
        "primaryGroups": ["split"], "metrics": [first], "numberDisplay": "percent", "categoryDisplay": "default",
        "legendDisplay": "default", "nestedLegend": false,
      ])
      return ("lnsPie", ["shape": "donut", "layers": [part]])
    case .table:
      let columns = ["split"] + metrics
      return (
        "lnsDatatable",
        base.merged([
          "columns": .list(columns.map { ["columnId": .text($0), "isTransposed": false] }),
          "sorting": ["columnId": first, "direction": "desc"], "paging": ["enabled": true, "size": 10],
        ])
      )
    case .heatmap:
      return (
        "lnsHeatmap",
        base.merged([
          "shape": "heatmap", "xAccessor": "time", "yAccessor": "split", "valueAccessor": first,
          "legend": ["isVisible": true, "position": "right", "type": "heatmap_legend"],
          "gridConfig": [
            "type": "heatmap_grid", "isCellLabelVisible": false, "isYAxisLabelVisible": true,
            "isXAxisLabelVisible": true, "isYAxisTitleVisible": false, "isXAxisTitleVisible": false,
          ],
        ])
      )
    case .series(let series):
      var part = base.merged(["seriesType": .text(series), "accessors": .list(metrics.map { .text($0) })])
      if panel.overTime {
        part = part.merged(["xAccessor": "time"])
        if panel.split != nil { part = part.merged(["splitAccessor": "split"]) }
      } else {
        part = part.merged(["xAccessor": "split"])
      }
      let right = zip(metrics, panel.metrics).filter(\.1.isRight).map { id, _ -> JSONValue in
        ["forAccessor": .text(id), "axisMode": "right"]
      }
      if !right.isEmpty { part = part.merged(["yConfig": .list(right)]) }
      return (
        "lnsXY",
        [
          "preferredSeriesType": .text(series), "legend": ["isVisible": true, "position": "right"],
          "valueLabels": "hide", "fittingFunction": "None", "layers": [part],
        ]
      )
    }
  }
}

extension PanelMetric {
  /// Whether the figure is a text: the last value of one.
  fileprivate var isText: Bool {
    guard operation == "last_value", let field = FieldList.all.first(where: { $0.path == self.field }) else {
      return false
    }
    if case .keyword = field.kind { return true }
    return false
  }
}
