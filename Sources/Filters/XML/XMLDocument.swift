//  The one file that knows libxml2: parsing within bounds, and XPath.
//
//  A document comes from anywhere, so the parser gets no network, loads no other document, and a document that declares
//  entities of its own is refused: nothing in it can grow beyond its source. libxml2 itself bounds depth (256) and texts.

internal import CXML2
internal import Diagnostics
internal import Events
internal import Glibc

/// Parses documents. One worker owns it.
final class XMLParser {
  /// Longer sources are refused.
  static let limitBytes = 10_000_000

  private let context: xmlParserCtxtPtr?
  private static let isReady: Void = xmlInitParser()

  init() {
    XMLParser.isReady
    context = xmlNewParserCtxt()
  }

  deinit { if let context { xmlFreeParserCtxt(context) } }

  /// - Parameter repairs: Gives what can be read of a malformed document.
  /// - Returns: Nil where there is no document.
  func parse(_ text: UnsafeRawBufferPointer, repairs: Bool) -> XMLDocument? {
    guard let context, text.count <= XMLParser.limitBytes else { return nil }
    var options = XML_PARSE_NONET.rawValue | XML_PARSE_NOERROR.rawValue | XML_PARSE_NOWARNING.rawValue
    if repairs { options |= XML_PARSE_RECOVER.rawValue }
    let bytes = text.baseAddress?.assumingMemoryBound(to: CChar.self)
    // The text is UTF-8 whatever its first line says.
    let document = xmlCtxtReadMemory(context, bytes, CInt(text.count), nil, "UTF-8", CInt(bitPattern: options))
    guard let document else { return nil }
    guard document.pointee.intSubset?.pointee.entities == nil, let root = xmlDocGetRootElement(document) else {
      xmlFreeDoc(document)
      return nil
    }
    return XMLDocument(document, root, isWellFormed: context.pointee.wellFormed != 0)
  }
}

/// A parsed document; the caller ends it with `free()`.
struct XMLDocument {
  private let document: xmlDocPtr
  let root: XMLNode
  let isWellFormed: Bool

  fileprivate init(_ document: xmlDocPtr, _ root: xmlNodePtr, isWellFormed: Bool) {
    self.document = document
    self.root = XMLNode(node: root)
    self.isWellFormed = isWellFormed
  }

  func free() { xmlFreeDoc(document) }

  fileprivate var pointer: xmlDocPtr { document }

  /// Takes all namespaces away: elements and attributes are then known by their names alone.
  func removeNamespaces() { XMLDocument.removeNamespaces(root.node) }

  private static func removeNamespaces(_ node: xmlNodePtr) {
    node.pointee.ns = nil
    var attribute = node.pointee.properties
    while let present = attribute {
      present.pointee.ns = nil
      attribute = present.pointee.next
    }
    var child = node.pointee.children
    while let present = child {
      if present.pointee.type == XML_ELEMENT_NODE { removeNamespaces(present) }
      child = present.pointee.next
    }
    // Nobody points at the declarations any more.
    if let declarations = node.pointee.nsDef { xmlFreeNsList(declarations) }
    node.pointee.nsDef = nil
  }
}

/// A node of a document, good until the document is freed.
struct XMLNode {
  fileprivate let node: xmlNodePtr

  var isElement: Bool { node.pointee.type == XML_ELEMENT_NODE }
  var isText: Bool { node.pointee.type == XML_TEXT_NODE || node.pointee.type == XML_CDATA_SECTION_NODE }
  var firstChild: XMLNode? { node.pointee.children.map { XMLNode(node: $0) } }
  var next: XMLNode? { node.pointee.next.map { XMLNode(node: $0) } }

  /// The text of a text node.
  var text: UnsafeRawBufferPointer { XMLNode.bytes(node.pointee.content) }

  /// The name without its prefix, also where the prefix stands for nothing.
  var localName: UnsafeRawBufferPointer {
    let name = XMLNode.bytes(node.pointee.name)
    guard let colon = name.firstIndex(of: UInt8(ascii: ":")) else { return name }
    return name.slice(colon + 1, name.count)
  }

  fileprivate static func bytes(_ start: UnsafePointer<xmlChar>?) -> UnsafeRawBufferPointer {
    guard let start else { return UnsafeRawBufferPointer(start: nil, count: 0) }
    return UnsafeRawBufferPointer(
      start: start, count: strlen(UnsafeRawPointer(start).assumingMemoryBound(to: CChar.self)))
  }

  /// Calls `body` with prefix, name and value of each declared namespace and each attribute. The prefix is empty where
  /// there is none; `value` must be copied.
  func forEachAttribute(
    _ room: inout ByteBuffer,
    _ body: (_ prefix: UnsafeRawBufferPointer, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void
  ) {
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    let declaration: StaticString = "xmlns"
    let word = UnsafeRawBufferPointer(start: declaration.utf8Start, count: 5)
    var namespace = node.pointee.nsDef
    while let present = namespace {
      let uri = XMLNode.bytes(present.pointee.href)
      if let prefix = present.pointee.prefix {
        body(word, XMLNode.bytes(prefix), uri)
      } else {
        body(nothing, word, uri)
      }
      namespace = present.pointee.next
    }
    var attribute = node.pointee.properties
    while let present = attribute {
      room.removeAll()
      XMLNode.append(textOf: present, to: &room)
      body(
        present.pointee.ns.map { XMLNode.bytes($0.pointee.prefix) } ?? nothing, XMLNode.bytes(present.pointee.name),
        room.bytes)
      attribute = present.pointee.next
    }
  }

  fileprivate static func append(textOf attribute: xmlAttrPtr, to out: inout ByteBuffer) {
    var child = attribute.pointee.children
    while let present = child {
      if present.pointee.type == XML_TEXT_NODE { out.append(bytes(present.pointee.content)) }
      child = present.pointee.next
    }
  }
}

/// Compiled XPath expressions. One worker owns it.
final class XPathSet {
  /// Steps of an evaluation after which it fails.
  private static let stepLimit: UInt = 10_000_000
  /// Bytes that one expression may give.
  static let limitBytes = 32 << 20

  private var expressions: [xmlXPathCompExprPtr?] = []
  private var namespaces: [(prefix: String, uri: String)] = []
  private let buffer: xmlBufferPtr?

  /// - Parameter namespaces: Prefixes for the expressions; where there are none, those of the root element.
  init(_ texts: [String], namespaces: [(prefix: String, uri: String)]) {
    self.namespaces = namespaces
    buffer = xmlBufferCreate()
    expressions = texts.map { XPathSet.compile($0) }
  }

  deinit {
    for case let expression? in expressions { xmlXPathFreeCompExpr(expression) }
    if let buffer { xmlBufferFree(buffer) }
  }

  private static func compile(_ text: String) -> xmlXPathCompExprPtr? {
    guard let context = xmlXPathNewContext(nil) else { return nil }
    defer { xmlXPathFreeContext(context) }
    context.pointee.error = { _, _ in }
    return xmlXPathCtxtCompile(context, text)
  }

  /// Whether a text is an expression.
  static func isSound(_ text: String) -> Bool {
    guard let compiled = compile(text) else { return false }
    xmlXPathFreeCompExpr(compiled)
    return true
  }

  /// What expressions are evaluated in: one for each document; the caller ends it with `end`.
  func begin(_ document: XMLDocument) -> Evaluation? {
    guard let context = xmlXPathNewContext(document.pointer) else { return nil }
    context.pointee.error = { _, _ in }
    context.pointee.opLimit = XPathSet.stepLimit
    context.pointee.node = document.root.node
    if namespaces.isEmpty {
      var declared = document.root.node.pointee.nsDef
      while let present = declared {
        if let prefix = present.pointee.prefix {
          xmlXPathRegisterNs(context, prefix, present.pointee.href)
        } else {
          xmlXPathRegisterNs(context, "xmlns", present.pointee.href)
        }
        declared = present.pointee.next
      }
    } else {
      for (prefix, uri) in namespaces { xmlXPathRegisterNs(context, prefix, uri) }
    }
    return Evaluation(context: context)
  }

  struct Evaluation {
    fileprivate let context: xmlXPathContextPtr
    func end() { xmlXPathFreeContext(context) }
  }

  /// Calls `body` with each result of expression `i` as a text that must be copied.
  ///
  /// - Returns: False where the expression is none, or went beyond its bounds.
  func evaluate(
    _ i: Int, _ evaluation: Evaluation, _ document: XMLDocument, _ room: inout ByteBuffer,
    _ body: (UnsafeRawBufferPointer) -> Void
  ) -> Bool {
    guard let expression = expressions[i], let buffer else { return false }
    evaluation.context.pointee.opCount = 0
    evaluation.context.pointee.node = document.root.node
    guard let result = xmlXPathCompiledEval(expression, evaluation.context) else { return false }
    defer { xmlXPathFreeObject(result) }
    switch result.pointee.type {
    case XPATH_BOOLEAN: if result.pointee.boolval != 0 { body(XPathSet.bytes("true")) }
    case XPATH_NUMBER:
      room.removeAll()
      appendRubyDouble(result.pointee.floatval, to: &room)
      body(room.bytes)
    case XPATH_STRING: body(XMLNode.bytes(result.pointee.stringval))
    case XPATH_NODESET:
      guard let set = result.pointee.nodesetval, let nodes = set.pointee.nodeTab else { return true }
      var total = 0
      for k in 0..<Int(set.pointee.nodeNr) {
        guard let node = nodes[k] else { continue }
        room.removeAll()
        switch node.pointee.type {
        case XML_NAMESPACE_DECL: continue
        case XML_ATTRIBUTE_NODE:
          node.withMemoryRebound(to: xmlAttr.self, capacity: 1) { XMLNode.append(textOf: $0, to: &room) }
        case XML_TEXT_NODE, XML_CDATA_SECTION_NODE: room.append(XMLNode.bytes(node.pointee.content))
        default:
          xmlBufferEmpty(buffer)
          if node.pointee.type == XML_DOCUMENT_NODE {
            guard let root = xmlDocGetRootElement(document.pointer) else { continue }
            xmlNodeDump(buffer, document.pointer, root, 0, 0)
          } else {
            xmlNodeDump(buffer, document.pointer, node, 0, 0)
          }
          room.append(UnsafeRawBufferPointer(start: xmlBufferContent(buffer), count: Int(xmlBufferLength(buffer))))
        }
        total += room.count
        if total > XPathSet.limitBytes { return false }
        body(room.bytes)
      }
    default: return false
    }
    return true
  }

  private static func bytes(_ text: StaticString) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }
}
