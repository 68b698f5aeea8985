//  What follows from an answer to a bulk request: for the request, its host, and each of its documents.

internal import Diagnostics
internal import Events
internal import PluginKit

extension BulkSender {
  /// - Parameters:
  ///   - status: Of the answer; 0 where there is none.
  ///   - failure: Why there is none.
  func settle(
    _ request: BulkRequest, _ slot: Slot, _ status: Int, _ failure: String?, isTimeout: Bool, retryAfter: Duration
  ) {
    let host = slot.host
    let now = Instant.now
    if slot.isTooLong {
      // Its documents may be there; fewer of them have a shorter answer.
      request.mayBeThere = true
      if request.documents.count > 1 { return sendHalves(request) }
      report("es.refused", "answers with more than \(Slot.longestAnswer >> 20) MiB", host)
      return sendAgain(request, after: refusalPause(request))
    }
    guard status > 0 else {
      request.mayBeThere = true
      if isTimeout { limit.overloaded() }
      host.setAside(.unreachable, now, first: .seconds(1), longest: plan.resurrectPause)
      showHosts()
      report("es.unreachable", "cannot be reached: \(failure ?? "no answer")", host)
      return sendNext(request)
    }
    figures.responses.withLock { $0[status, default: 0] += 1 }
    if Decision.isOverload(status) { limit.overloaded() }
    let error = errorOf(slot.answer.bytes, status)
    let decision = Decision.decide(requestStatus: status, type: error.type, reason: error.reason)
    if decision == .setAside {
      host.setAside(.refusing, now, first: plan.firstPause, longest: plan.longestPause)
      showHosts()
      report("es.refused", "answers \(status): \(Self.excerpt(slot.answer.bytes))", host)
      return sendNext(request)
    }
    if host.state != .ready {
      host.state = .ready
      host.isProbing = false
      showHosts()
    }
    switch decision {
    case .readItems: readItems(request, slot, now)
    case .halve:
      if status == 413 { host.refused(bytes: request.body.count, now) }
      if request.documents.count > 1 {
        sendHalves(request)
      } else {
        bury(request, request.documents[0], status, "request", Self.excerpt(slot.answer.bytes))
      }
    default:
      report("es.refused", "answers \(status): \(Self.excerpt(slot.answer.bytes))", host)
      sendAgain(request, after: max(retryAfter, refusalPause(request)))
    }
  }

  /// What the answer to a whole request names as its error; empty where it is not the server's JSON.
  private func errorOf(_ answer: UnsafeRawBufferPointer, _ status: Int) -> (type: String, reason: String) {
    guard !(200..<300).contains(status) else { return ("", "") }
    reader.removeAll()
    let error = (try? reader.add(arrivalNs: 0).parseJSON(answer))?["error"]
    return (error?["type"]?.string ?? "", error?["reason"]?.string ?? "")
  }

  private func readItems(_ request: BulkRequest, _ slot: Slot, _ now: Instant) {
    reader.removeAll()
    let event = reader.add(arrivalNs: 0)
    guard let answer = try? event.parseJSON(slot.answer.bytes), answer.isMap, let items = answer["items"], items.isList,
      items.count == request.documents.count
    else {
      request.mayBeThere = true
      report("es.refused", "answers with something that is no bulk answer", slot.host)
      sendAgain(request, after: refusalPause(request))
      return
    }
    slot.host.failures = 0
    figures.lastSuccess.set(Int(now.ns))
    var sums = Sums()
    var again: [BulkRequest.Document] = []
    var cured: [(document: BulkRequest.Document, json: [UInt8])] = []
    var isOverload = false
    var item = items.first
    var example = ""
    for var document in request.documents {
      let result = item?.first
      item = item?.next
      let status = Int(result?["status"]?.integer ?? 0)
      if status == 0 {  // an answer that tells nothing of the document
        document.attempts += 1
        again.append(document)
        example = "gives no status for documents"
        continue
      }
      let error = result?["error"]
      let type = error?["type"]?.string ?? (error == nil ? "" : "unknown")
      let reason = error?["reason"]?.string ?? error?.string ?? ""
      if plan.dropTypes.contains(type) {
        sums.dropped += 1
        continue
      }
      let decision =
        plan.letterCodes.contains(status)
        ? .deadLetter
        : Decision.decide(
          itemStatus: status, type: type, reason: reason, action: document.action,
          hasVersion: plan.writer.version != nil)
      // Of a record that no earlier life and no lost answer may have sent, nobody should have heard.
      let isFirst = document.attempts == 0 && !request.mayBeThere
      document.attempts += 1
      let forbiddenSince = document.forbiddenSince ?? now
      document.forbiddenSince = nil
      var isAgain = false
      switch decision {
      case .done: sums.done += 1
      case .stale: sums.dropped += 1
      case .duplicate:
        if isFirst, plan.writer.makesIDs, !request.delivery.source.isRecovered(document.record) {
          sums.conflicts += 1
        } else {
          sums.duplicates += 1
        }
      case .retry: isAgain = true
      case .retryAttempts(let most):
        document.serverErrors += 1
        isAgain = document.serverErrors < most
      case .retryFor(let time):
        document.forbiddenSince = forbiddenSince
        isAgain = now - forbiddenSince < time
      default: break
      }
      // A full disk is answered with 429 too, but asks for room and not for less load.
      isOverload = isOverload || (Decision.isOverload(status) && type != "cluster_block_exception")
      if isAgain {
        again.append(document)
        if !plan.silentTypes.contains(type) { example = "answers \(status) for documents: \(type)" }
      } else if !decision.isDelivered, let json = cure(&document, of: request, status, error) {
        cured.append((document, json))
      } else if !decision.isDelivered {
        bury(request, document, status, type, Self.excerpt(text: reason))
      }
    }
    if isOverload {
      limit.overloaded()
    } else {
      limit.succeeded(after: now - slot.began, bytes: request.body.count)
    }
    finish(sums, request)
    if again.isEmpty {
      figures.trouble.withLock { $0 = nil }
    } else {
      if !example.isEmpty { report("es.refused", example, slot.host, countsFailure: false) }
      let rest = request.copy(of: again)
      rest.mayBeThere = false
      sendAgain(rest, after: refusalPause(rest))
    }
    if !cured.isEmpty {
      let rest = BulkRequest(request.delivery, flow, capacity: cured.reduce(0) { $0 + $1.document.size + 64 })
      rest.canSpill = request.canSpill
      for one in cured { rest.take(one.document, from: request, json: one.json) }
      rest.count()
      sendNext(rest)
    }
    if again.isEmpty, sums.count == request.documents.count, sums.dropped == 0 {
      figures.goodRequests.add()
    } else {
      figures.mixedRequests.add()
    }
  }

  /// Fields of one document that are cured at most.
  private static let cureLimit = 16

  /// The document without its mapping conflict; nil where it has none or none that can be cured.
  private func cure(
    _ document: inout BulkRequest.Document, of request: BulkRequest, _ status: Int, _ error: Value?
  ) -> [UInt8]? {
    guard status == 400 else { return nil }
    var reasons: [String] = []
    var level = error
    while let present = level, reasons.count < 8 {
      if let reason = present["reason"]?.string { reasons.append(reason) }
      level = present["caused_by"]
    }
    guard let conflict = MappingConflict(reasons) else { return nil }
    var json: [UInt8]?
    if document.action == .index || document.action == .create, document.cures < Self.cureLimit {
      json = conflict.cured(request.json(document), by: plan.conflictCure)
    }
    document.cures += 1
    figures.conflict(request.target(document).index, conflict, isCured: json != nil)
    return json
  }

  private struct Sums {
    var done = 0
    var duplicates = 0
    var conflicts = 0
    var dropped = 0
    var count: Int { done + duplicates + conflicts + dropped }
  }

  private func finish(_ sums: Sums, _ request: BulkRequest) {
    figures.eventsOut.add(sums.count)
    figures.duplicates.add(sums.duplicates)
    figures.conflicts.add(sums.conflicts)
    figures.dropped.add(sums.dropped)
    figures.inFlight.add(-sums.count)
    if sums.conflicts > 0 {
      Log.warn(
        "es.conflicts", "Documents are there already that were never sent: another daemon writes the same ids.",
        ["output": .text(context.stepID), "documents": .text(String(sums.conflicts))])
    }
    if sums.count > 0 { request.delivery.finish(sums.count) }
  }
}

extension Decision {
  /// The document needs no further care.
  fileprivate var isDelivered: Bool {
    switch self {
    case .done, .duplicate, .stale: true
    default: false
    }
  }
}
