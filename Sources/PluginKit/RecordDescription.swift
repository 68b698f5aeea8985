//  What a record's descriptor says: how an input's payloads become events. It is written into each segment of the
//  queue, so that a restart with another configuration changes no event that had arrived.

internal import Diagnostics
internal import Events
public import Records

/// How the payloads of one input are decoded, and what is added to each event.
public struct RecordDescription: Hashable, Sendable {
  /// The kind of the input: `beats`, `http`, `tcp`. Decides where peer and request go in the event.
  public var input: String
  /// The id of the step, for statistics.
  public var inputID: String
  /// `json`, `plain`, or `beats` (a JSON object, kept as text where it is none).
  public var codec: String
  public var charset: String
  public var ecs: ECSMode
  /// The option `type`: set where the event has none.
  public var type: String?
  public var tags: [String]
  /// Field reference and texts, in order.
  public var addField: [AddedField]
  /// Options of the input that decoding needs, by name: `enrich`, `target`, `response_headers`.
  public var options: [Setting]

  public struct AddedField: Hashable, Sendable {
    public var name: String
    public var values: [String]
    public init(name: String, values: [String]) {
      self.name = name
      self.values = values
    }
  }
  public struct Setting: Hashable, Sendable {
    public var name: String
    public var value: String
    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  public init(
    input: String, inputID: String, codec: String, charset: String = "UTF-8", ecs: ECSMode = .disabled,
    type: String? = nil, tags: [String] = [], addField: [AddedField] = [], options: [Setting] = []
  ) {
    self.input = input
    self.inputID = inputID
    self.codec = codec
    self.charset = charset
    self.ecs = ecs
    self.type = type
    self.tags = tags
    self.addField = addField
    self.options = options
  }

  public func option(_ name: String) -> String? { options.first { $0.name == name }?.value }

  /// The descriptor that queues store: this description as JSON.
  public var descriptor: RecordDescriptor {
    var out = ByteBuffer()
    out.append("{\"input\":")
    out.append(quoted: input)
    out.append(",\"id\":")
    out.append(quoted: inputID)
    out.append(",\"codec\":")
    out.append(quoted: codec)
    out.append(",\"charset\":")
    out.append(quoted: charset)
    out.append(",\"ecs\":")
    out.append(quoted: ecs.rawValue)
    if let type {
      out.append(",\"type\":")
      out.append(quoted: type)
    }
    appendList(&out, ",\"tags\":[", tags, "]") { $0.append(quoted: $1) }
    appendList(&out, ",\"add_field\":[", addField, "]") { out, field in
      appendList(&out, "[", [field.name] + field.values, "]") { $0.append(quoted: $1) }
    }
    appendList(&out, ",\"options\":{", options, "}") { out, setting in
      out.append(quoted: setting.name)
      out.append(58)
      out.append(quoted: setting.value)
    }
    out.append(125)
    return RecordDescriptor(out.array())
  }

  /// Reads a descriptor back. What is missing takes its default, so that older queues stay readable.
  public init(_ descriptor: RecordDescriptor) {
    self.init(input: "unknown", inputID: "unknown", codec: "plain")
    let batch = EventBatch()
    let event = batch.add(arrivalNs: 0)
    guard let map = descriptor.bytes.withUnsafeBytes({ try? event.parseJSON($0) }), map.isMap else { return }
    func text(_ name: String) -> String? { map[name]?.string }
    input = text("input") ?? input
    inputID = text("id") ?? inputID
    codec = text("codec") ?? codec
    charset = text("charset") ?? charset
    ecs = text("ecs").flatMap(ECSMode.init) ?? ecs
    type = text("type")
    func texts(_ list: Value?) -> [String] {
      var result: [String] = []
      var child = list?.first
      while let element = child {
        if let text = element.string { result.append(text) }
        child = element.next
      }
      return result
    }
    tags = texts(map["tags"])
    var field = map["add_field"]?.first
    while let present = field {
      let parts = texts(present)
      if let name = parts.first { addField.append(AddedField(name: name, values: Array(parts.dropFirst()))) }
      field = present.next
    }
    var setting = map["options"]?.first
    while let present = setting {
      options.append(Setting(String(decoding: present.key.bytes, as: UTF8.self), present.string ?? ""))
      setting = present.next
    }
  }
}

private func appendList<Element>(
  _ out: inout ByteBuffer, _ open: StaticString, _ elements: [Element], _ close: StaticString,
  _ body: (inout ByteBuffer, Element) -> Void
) {
  out.append(open)
  for (i, element) in elements.enumerated() {
    if i > 0 { out.append(44) }
    body(&out, element)
  }
  out.append(close)
}
