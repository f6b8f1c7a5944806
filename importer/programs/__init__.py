"""The programs that a carried OpenShift release brings along: openshift-install and oc."""
