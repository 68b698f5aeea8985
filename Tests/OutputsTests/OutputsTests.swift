//  What outputs make of their settings, and how the elasticsearch output reads answers.

import Testing
