//  What is done about an answer of Elasticsearch: one table for the documents of a bulk request, one for whole requests.

/// What follows from a status.
enum Decision: Equatable, Sendable {
  /// The document is indexed.
  case done
  /// A document with this id is there already, from an earlier attempt.
  case duplicate
  /// Sent again after a pause, as often as it takes.
  case retry
  /// Sent again up to so many attempts in all, then a dead letter.
  case retryAttempts(Int)
  /// Sent again for so long, then a dead letter.
  case retryFor(Duration)
  /// No attempt will help.
  case deadLetter
  /// The request was taken: its items tell more.
  case readItems
  /// One of the documents spoils the request, or it is too large: it is sent in halves.
  case halve

  /// Decides about one document.
  ///
  /// - Parameter isCreate: Whether the action was `create`, whose conflict means that the document is there already.
  static func decide(itemStatus: Int, type: String = "", reason: String = "", isCreate: Bool = true) -> Decision {
    switch itemStatus {
    case 200, 201: .done
    case 409 where isCreate: .duplicate
    case 429, 503: .retry
    case 400 where type == "validation_exception" && reason.contains("shards open"): .retry
    case 500, 502, 504: .retryAttempts(5)
    case 403: .retryFor(.seconds(300))
    default: .deadLetter
    }
  }

  /// Decides about a whole request; 0 is a server that was not reached or did not answer in time.
  static func decide(requestStatus: Int) -> Decision {
    switch requestStatus {
    case 200..<300: .readItems
    case 400, 413: .halve
    default: .retry
    }
  }

  /// Whether the server asks for less load.
  static func isOverload(_ status: Int) -> Bool { status == 429 || status == 503 }
}
