// Package mcs merges what clusters export by the Multi-Cluster Services API of Kubernetes (KEP-1645).
//
//	ServiceExport and Service of each cluster ──> Merge ──┬──> Import      what the ServiceImport in every cluster says
//	                                                      └──> Conditions  the status of each ServiceExport
//	Import.Fact, Import.PodFact  ──> endpoints.Mesh               the name <service>.<namespace>.svc.clusterset.local
//
// Services of the same namespace and name that are exported are one. Where they disagree the one that was
// exported first decides, for each property by itself; ports are united, and a mesh leads each to the clusters
// whose pods have it. Every ServiceExport that has a part in a disagreement says so in its condition Conflict,
// for as long as it lasts.
//
// # What it does not do
//
// It reads and writes no objects, gives out no addresses, and does not decide which pods back a service: who
// tells a mesh of an Import names it in the Services of the pods of clusters that export it, and of no others.
package mcs
